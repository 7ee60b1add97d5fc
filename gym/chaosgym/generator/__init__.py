"""Generated applications: as many as there are seeds, of 5 to 40 components.

    generate_app(7)         # `generated-7`
    generate_app(7, 40)     # `generated-7-40`

An application is a function of (seed, number of components) on every machine. Services stand in layers behind a
gateway, workers behind streams. The work that one request sets off is bounded, so that it costs as much in a large
application as in a small one.
"""

from chaosgym.generator.document import FEWEST, MOST, generate_app, generate_document, generated_app
from chaosgym.generator.requests import MOST_SPANS

__all__ = ["FEWEST", "MOST", "MOST_SPANS", "generate_app", "generate_document", "generated_app"]
