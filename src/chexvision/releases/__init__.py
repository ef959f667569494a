"""The published chest X-ray datasets: what each release looks like on disk, and under which terms it is used."""
