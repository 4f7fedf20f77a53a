"""What falls, rests and touches: totes and heaps of items, in MuJoCo."""
