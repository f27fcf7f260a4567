"""How good: disparities and distances against truth, confidence against errors, the reported sigma against the real one."""

from semantic_stereo_ros.metrics.disparity import DisparityMetrics, Sparsification, disparity_metrics, sparsification
from semantic_stereo_ros.metrics.distances import ObjectErrors, object_errors
from semantic_stereo_ros.metrics.instances import InstanceMatch, match_instances
from semantic_stereo_ros.metrics.sigma import Reliability, SigmaCoverage, gaussian_nll, reliability, sigma_coverage

__all__ = [
    "DisparityMetrics",
    "InstanceMatch",
    "ObjectErrors",
    "Reliability",
    "SigmaCoverage",
    "Sparsification",
    "disparity_metrics",
    "gaussian_nll",
    "match_instances",
    "object_errors",
    "reliability",
    "sigma_coverage",
    "sparsification",
]
