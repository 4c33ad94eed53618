"""Networks as estimators of scikit-learn: a classifier of images, and a transformer to features.

They go through ``clone``, ``Pipeline``, ``cross_val_score``, ``GridSearchCV`` and ``pickle``.
"""

from lucid.sklearn._classifier import ImageClassifier as ImageClassifier
from lucid.sklearn._features import ImageFeatures as ImageFeatures
