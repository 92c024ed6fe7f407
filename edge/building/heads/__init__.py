"""What YOLO networks end with: recognised, and decoded into boxes, scores and classes."""
