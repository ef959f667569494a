"""Loss, schedule, loop, checkpoint and history."""
