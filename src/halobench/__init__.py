"""How far does a classifier's certainty reach around its training points, and what can calibration repair?"""
