"""Predictors: from LoRAs to answers, with no training code."""

from lorascope.predict.folder import load_predictor, save_predictor
from lorascope.predict.prediction import Prediction
from lorascope.predict.predictor import Predictor
from lorascope.predict.scaler import Scaler
from lorascope.predict.target import Target

__all__ = ["Prediction", "Predictor", "Scaler", "Target", "load_predictor", "save_predictor"]
