"""Figures for people: tables, charts, HTML reports and model cards."""
