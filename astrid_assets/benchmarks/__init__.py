"""What the platform is measured by: scenes with known truth, and the measures taken on them."""
