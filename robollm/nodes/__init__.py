"""The ROS 2 side: the only room that imports rclpy and message packages."""
