"""`sslam tag`."""
