# The image of `greffon submit --k8s`: the program with MPI, and what it needs at run time. It was not built by the tests,
# which have no container engine.
#
#   docker build --tag registry.example/greffon .
#
# On a network without the outside world, name the mirrors: --build-arg REGISTRY=mirror.example/library/, and a
# .cargo/config.toml beside this file with the mirror of crates.io.
ARG REGISTRY=

FROM ${REGISTRY}rust:1.95-trixie AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libopenmpi-dev openmpi-bin libclang-dev clang pkg-config \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target \
    cargo build --release --locked --package trainer --bin greffon --features mpi,nccl \
    && install --strip target/release/greffon /usr/local/bin/greffon

FROM ${REGISTRY}debian:trixie-slim
# ssh joins the pods of a TrainJob; a Job needs Open MPI alone.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates openmpi-bin openssh-client \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home greffon
COPY --from=build /usr/local/bin/greffon /usr/local/bin/greffon
# By number, so that Kubernetes can tell that it is not root.
USER 10001
ENTRYPOINT ["greffon"]
