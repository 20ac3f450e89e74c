"""Predictive data attribution, verified by retraining."""
