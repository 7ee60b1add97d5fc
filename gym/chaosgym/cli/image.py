"""`chaosgym image`: the one container image of all components, and that of chaosgym itself, made without a registry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chaosgym.cli.output import JsonOption, print_json, print_rows, talk

if TYPE_CHECKING:
    from chaosgym.sandbox.image_contents import ImageKind

__all__ = ["group"]

group = typer.Typer(help="The container images: of all components, and of chaosgym itself.", no_args_is_help=True, rich_markup_mode=None)


_Kind = Annotated[
    str, typer.Option("--kind", metavar="component|runner", help="Of every container of a sandbox, or of `chaosgym fleet`.")
]


def _read_kind(text: str) -> ImageKind:
    from chaosgym.errors import InputError, did_you_mean

    known = ("component", "runner")
    if text not in known:
        raise InputError(f"unknown kind of image {text!r}{did_you_mean(text, known)}; known: {', '.join(known)}")
    return text


@group.command("build", epilog="Example: chaosgym image build --out component.tar && docker load --input component.tar")
def build(
    out: Annotated[Path | None, typer.Option(help="The archive to write; by default it goes into the cache, and is built once.")] = None,
    kind: _Kind = "component",
    as_json: JsonOption = False,
) -> None:
    """Build an image from this machine's Python, without a registry and without Docker, as a docker-archive.

    \b
    docker load --input FILE                      into Docker
    kind load image-archive FILE                  into a kind cluster
    ctr --namespace k8s.io images import FILE     into a node's containerd
    """
    from time import monotonic

    from chaosgym.sandbox.image import build_image, cached_image, image_reference

    began, wanted = monotonic(), _read_kind(kind)
    if out is None:
        path = cached_image(talk, wanted)
    else:
        path = out
        build_image(out, talk, wanted)
    size = path.stat().st_size
    row = {"reference": image_reference(wanted), "path": str(path), "bytes": size, "seconds": round(monotonic() - began, 1)}
    if as_json:
        print_json(row)
    else:
        print_rows([row | {"size": f"{size / 1e6:.0f} MB"}], ("reference", "size", "seconds", "path"))


@group.command("show", epilog="Example: chaosgym image show --json")
def show(kind: _Kind = "component", as_json: JsonOption = False) -> None:
    """Show an image's reference and what it holds, built already or not."""
    from chaosgym.sandbox.binaries import find_redis
    from chaosgym.sandbox.image import image_contents, image_path, image_reference
    from chaosgym.sandbox.image_contents import LEFT_OUT
    from chaosgym.sandbox.image_root import postgres_version

    wanted = _read_kind(kind)
    contents, path, reference = image_contents(wanted), image_path(wanted), image_reference(wanted)
    left_out = {name: why for name, why in LEFT_OUT.items() if name not in contents.distributions}
    servers = {"PostgreSQL": postgres_version(contents), "Redis": find_redis().version_text}
    if as_json:
        print_json({
            "reference": reference, "path": str(path), "built": path.exists(),
            "python": contents.python, "machine": contents.machine, **{name.lower(): version for name, version in servers.items()},
            "distributions": contents.versions, "left_out": left_out, "modules": len(contents.sources),
        })  # fmt: skip
        return
    print(f"{reference}\n{path}{'' if path.exists() else ' (not built yet)'}\n")
    modules = f"{len(contents.sources)} modules"
    held = {"Python": f"{contents.python} {contents.machine}", **servers, "chaosgym": modules, **contents.versions}
    print_rows([{"name": name, "version": version} for name, version in held.items()], ("name", "version"))
    talk(f"left out: {', '.join(left_out)}")
