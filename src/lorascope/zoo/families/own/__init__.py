"""A recipe of your own: any Qwen2 or Llama folder, your data, your labels."""

from lorascope.zoo.families.own.family import Answers, Lesson, Question, TextFamily

__all__ = ["Answers", "Lesson", "Question", "TextFamily"]
