"""The ROS graph: nodes as shells around the stages, and rooms for what they are made of. Only here are rclpy and messages known."""
