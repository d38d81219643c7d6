"""The chart, judged without a cluster: copies kept equal, templates rendered, manifests held against rules."""
