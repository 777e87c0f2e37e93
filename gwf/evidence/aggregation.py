"""What the report shows of the aggregation-diffusion study."""

import matplotlib.pyplot as plt
import pandas as pd

from companion.style import REAL, WIDTH, use_style

TITLE = "Aggregation-diffusion by forward-backward splitting"
CAPTION = (
    "Entropy and interaction energy together, the interaction taken explicitly (split) or inside the implicit step "
    "(unsplit). Three W_2 distances at the last step: learned law to the exact iterate of its own scheme (training), "
    "exact iterate to the flow (time step), learned law to the flow (both). For the quadratic kernel the exact values are "
    "closed forms; for the double well they come from quantiles and from finite volumes. The paper gives no numbers here."
)
COLOURS = {"split": "#0072B2", "unsplit": "#D55E00"}


def table(cases):
    """One row per case, at the last step: standard deviations and distances, mean and spread over seeds."""
    rows = []
    for case, tables in cases.items():
        frame = tables["table"]
        at = frame[frame["k"] == frame["k"].max()]
        rows.append(
            {
                "case": case,
                "k": int(at["k"].iloc[0]),
                "std learned": at["std_learned"].mean(),
                "std of the scheme": at["std_scheme"].iloc[0],
                "std of the flow": at["std_flow"].iloc[0],
                "W2 learned - scheme": at["w2_learned_to_scheme"].mean(),
                "spread": at["w2_learned_to_scheme"].std(),
                "W2 scheme - flow": at["w2_scheme_to_flow"].iloc[0],
                "W2 learned - flow": at["w2_learned_to_flow"].mean(),
                "seeds": len(at),
            }
        )
    return pd.DataFrame(rows).round(4)


def figure(cases):
    """Left: distance of the learned law to its exact iterate against time. Right: final densities on the line."""
    use_style()
    fig, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 2.7), layout="constrained")
    drawn = False
    for case, tables in cases.items():
        mean = tables["table"].groupby("k").mean(numeric_only=True).iloc[1:]
        scheme = "unsplit" if "unsplit" in case else "split"
        style = "solid" if "density" in tables else "dashed"
        left.plot(
            mean["t"],
            mean["w2_learned_to_scheme"],
            color=COLOURS[scheme],
            linestyle=style,
            label=f"{'double well' if style == 'solid' else 'quadratic'}, {scheme}",
        )
        if "density" in tables:
            density = tables["density"].groupby("x").mean(numeric_only=True)
            if not drawn:
                right.plot(density.index, density["start"], color=REAL, linestyle="dotted", label="start")
                right.plot(density.index, density["flow"], color=REAL, label="finite volumes")
                drawn = True
            right.step(
                density.index,
                density["learned"],
                where="mid",
                color=COLOURS[scheme],
                linewidth=1,
                label=f"learned, {scheme}",
            )
    left.set(xlabel="time", ylabel="W2 of learned law to exact iterate", yscale="log")
    right.set(xlabel="x", ylabel="density at the last step")
    for ax in (left, right):
        if ax.get_legend_handles_labels()[0]:
            ax.legend(fontsize=7)
    return fig
