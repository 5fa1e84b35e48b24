"""The picture of the story: correlations by model, accuracy by text."""

import numpy as np

from experiments.shared import plots
from experiments.word_vectors import analogies
from experiments.word_vectors.measure import SETS


def figures(numbers):
    """Correlations by model, and the accuracy of the classifier by text."""
    models, texts = numbers.get("models"), numbers.get("texts")
    if not models or not texts:
        return {}

    def draw(axes):
        axes[0, 0].figure.set_size_inches(11, 4)
        for i, name in enumerate(SETS):
            places = np.arange(len(models)) + 0.4 * i
            spread = [row[f"± {name}"] or 0 for row in models]
            axes[0, 0].barh(places, [row[name] for row in models], 0.4, xerr=spread, label=name)
        axes[0, 0].set_yticks(np.arange(len(models)) + 0.2, [row["arm"] for row in models])
        axes[0, 0].invert_yaxis()
        axes[0, 0].set(xlabel="Spearman's correlation with people", title="by model, on one text")
        axes[0, 0].legend(fontsize=8)
        for domain in dict.fromkeys(row["domain"] for row in texts):
            own = [row for row in texts if row["domain"] == domain]
            lines = [[row["words"] for row in own], [row["accuracy"] for row in own]]
            spread = [row["± accuracy"] or 0 for row in own]
            axes[0, 1].errorbar(*lines, spread, label=f"text: {domain}", marker="o", capsize=3)
        axes[0, 1].set(xscale="log", xlabel="words of text", ylabel="accuracy on posts of 20 groups")
        axes[0, 1].set_title("by domain and size of the text")
        axes[0, 1].margins(x=0.1, y=0.3)
        plots.legend(axes[0, 1], loc="upper left")

    found = {"": (draw, (1, 2))}
    return found | ({"analogies": analogies.draw(numbers["shown"])} if "shown" in numbers else {})
