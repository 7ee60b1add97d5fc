"""`chaosgym`, but a component goes by the same handle in every report: what training is without names drawn at random.

    python benchmarks/fixed_names.py train sft --config sft.yaml

Components of one application keep their handles, as services of one company keep their names, so that which one breaks how can be
learnt by heart. For benchmarks/results.py.
"""

from chaosgym.cli import main
from chaosgym.incident import report

drawn = report.draw_handles
report.draw_handles = lambda findings, key: drawn(findings, "the same")

if __name__ == "__main__":
    main()
