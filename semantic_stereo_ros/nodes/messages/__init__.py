"""ROS messages to the core's arrays and types, and back; nothing here knows a node."""
