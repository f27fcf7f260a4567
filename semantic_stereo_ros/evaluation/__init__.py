"""The accuracy suite: a folder of cases with truth through the pipeline, judged, pooled and reported."""
