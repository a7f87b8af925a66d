#!/usr/bin/env bash
# As apache/hadoop starts.
set -e
sudo chmod o+rwx /data
if [ -n "${ENSURE_NAMENODE_DIR:-}" ] && [ ! -d "$ENSURE_NAMENODE_DIR" ]; then
  /opt/hadoop/bin/hdfs namenode -format -force
fi
"$@"
