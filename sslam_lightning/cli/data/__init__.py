"""The commands of `sslam data`."""
