"""What the daemon tells about itself: metrics, health, logs. Projections of facts, never a source of them."""
