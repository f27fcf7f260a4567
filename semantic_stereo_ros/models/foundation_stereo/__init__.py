"""FoundationStereo (Wen et al., CVPR 2025), written from its behaviour and the names and shapes of its checkpoints.

A monocular prior (vit, dpt) and a CNN (edgenext) give features; volume and aggregation give a filtered cost volume; context, lookup and
update refine the disparity; upsample brings it to full resolution. model.FoundationStereo is the whole.
"""
