"""Generates `gen/` from the contract: `python protos/generate.py [--check]`.

With `--check` nothing is written; the exit code is 1 where `gen/` differs from what the contract gives.
`buf/validate/validate.proto` is shipped by protovalidate only as a descriptor, so it is handed to protoc as one.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from google.api import annotations_pb2
from google.protobuf import (
    descriptor_pb2,
    duration_pb2,
    field_mask_pb2,
    timestamp_pb2,
)
from protovalidate._gen.buf.validate import validate_pb

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
GEN = ROOT / "gen"


def validate_descriptor_set() -> bytes:
    """The descriptor of buf/validate/validate.proto and of what it imports."""
    files = descriptor_pb2.FileDescriptorSet()
    for module in (descriptor_pb2, duration_pb2, timestamp_pb2, field_mask_pb2):
        module.DESCRIPTOR.CopyToProto(files.file.add())
    files.file.add().ParseFromString(validate_pb.desc().proto.to_binary())
    return files.SerializeToString()


def googleapis() -> Path:
    """The folder that holds google/api and google/rpc."""
    return Path(annotations_pb2.__file__).parent.parent.parent


def protoc(*arguments: str) -> None:
    """Runs protoc; its own messages say what is wrong with a contract."""
    done = subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *arguments], cwd=PROTOS, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


def generate(out: Path) -> None:
    """Writes Python code, stubs for type checkers and gRPC code below `out`."""
    ours = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))
    with tempfile.NamedTemporaryFile(suffix=".binpb") as descriptors:
        descriptors.write(validate_descriptor_set())
        descriptors.flush()
        common = [f"--descriptor_set_in={descriptors.name}"]
        protoc(
            *common, f"--python_out={out}", f"--pyi_out={out}", "buf/validate/validate.proto",
        )  # fmt: skip
        with tempfile.NamedTemporaryFile(suffix=".binpb") as image:
            protoc(
                *common, f"-I{PROTOS}", f"-I{googleapis()}", "--include_imports",
                "--include_source_info", f"--descriptor_set_out={image.name}", *ours,
            )  # fmt: skip
            protoc(
                f"--descriptor_set_in={image.name}", f"--python_out={out}", f"--pyi_out={out}",
                f"--grpc_python_out={out}", *ours,
            )  # fmt: skip


def image(path: Path) -> None:
    """Writes the descriptor set, with comments, that `buf lint` and `buf breaking` read."""
    ours = sorted(str(p.relative_to(PROTOS)) for p in PROTOS.rglob("*.proto"))
    with tempfile.NamedTemporaryFile(suffix=".binpb") as descriptors:
        descriptors.write(validate_descriptor_set())
        descriptors.flush()
        protoc(
            f"--descriptor_set_in={descriptors.name}", f"-I{PROTOS}", f"-I{googleapis()}",
            "--include_imports", "--include_source_info", f"--descriptor_set_out={path}", *ours,
        )  # fmt: skip


def tree(folder: Path) -> dict[str, bytes]:
    """Every generated file below the folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix in {".py", ".pyi"}
    }


def main() -> int:
    """Generates, compares, or writes the image."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare")
    parser.add_argument("--image", type=Path, help="write the descriptor set for buf to this file")
    arguments = parser.parse_args()
    if arguments.image:
        image(arguments.image)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        fresh, kept = tree(Path(folder)), tree(GEN)
        if arguments.check:
            drift = sorted(name for name in fresh.keys() | kept.keys() if fresh.get(name) != kept.get(name))
            for name in drift:
                print(f"gen/{name} differs from the contract: run `make proto`", file=sys.stderr)
            return 1 if drift else 0
        for name in kept.keys() - fresh.keys():
            (GEN / name).unlink()
        for name, content in fresh.items():
            (GEN / name).parent.mkdir(parents=True, exist_ok=True)
            (GEN / name).write_bytes(content)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
