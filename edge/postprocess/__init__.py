"""From candidate boxes to detections."""
