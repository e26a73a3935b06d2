# syntax=docker/dockerfile:1
# The worker with libtorch and the models that ship. From the repository's root:
#   docker build -f deploy/worker.Dockerfile -t warmq-worker .
#   docker build -f deploy/worker.Dockerfile -t warmq-worker:cuda --build-arg LIBTORCH_FLAGS=--cuda .

FROM rust:1-bookworm AS builder
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# Before the sources: a change of code does not fetch libtorch again.
ARG LIBTORCH_FLAGS=""
COPY deploy/setup-libtorch.sh deploy/
# Names of internal functions are a fifth of the CPU half, and nothing reads them.
RUN deploy/setup-libtorch.sh $LIBTORCH_FLAGS /opt/libtorch \
    && strip --strip-unneeded /opt/libtorch/lib/libtorch_cpu.so
ENV LIBTORCH=/opt/libtorch
COPY . .
# The caches stay with the builder, so the binary is copied out in the same step. libtorch's flavour is part of the
# target folder's name: what was linked against the one must not be taken for the other.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,id=warmq-worker-target \
    target=target/libtorch${LIBTORCH_FLAGS} \
    && cargo build --release --locked --target-dir "$target" -p warmq-worker \
    && install -D -t /out "$target/release/warmq-worker"

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libstdc++6 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --no-create-home warmq \
    && install -d -o warmq -g warmq /data/files
# The place it was linked against; the libraries find each other through $ORIGIN.
COPY --from=builder /opt/libtorch/lib/ /opt/libtorch/lib/
COPY --from=builder /out/ /usr/local/bin/
COPY models/ /models/
ENV LD_LIBRARY_PATH=/opt/libtorch/lib
# The same user id as the router's: they share /data/files.
USER 10001
WORKDIR /data
ENTRYPOINT ["warmq-worker"]
