"""What is solved in closed form or by linear algebra, and not trained: kernel machines, Theorem 1, least squares."""
