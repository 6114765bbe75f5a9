"""The embedded tabletop: scene, tasks, scripted expert and recording (MuJoCo, no torch)."""
