"""The ways in which commands reach an arm and its gripper."""
