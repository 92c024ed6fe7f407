"""The procedural renderer behind :mod:`edge.demo.scene`: parts, clutter, belts, light, camera."""
