"""`robollm ...`: everything that runs without ROS. One file per verb."""
