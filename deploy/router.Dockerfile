# syntax=docker/dockerfile:1
# The router and the command line. From the repository's root:
#   docker build -f deploy/router.Dockerfile -t warmq-router .

FROM rust:1-bookworm AS builder
WORKDIR /src
COPY . .
# The caches stay with the builder, so the binaries are copied out in the same step.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,id=warmq-router-target \
    cargo build --release --locked -p warmq-router -p warmq-cli \
    && install -D -t /out target/release/warmq-router target/release/warmq

FROM debian:bookworm-slim
# Certificates: for S3, for webhooks over TLS, for amqps:// and rediss://.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --no-create-home warmq \
    && install -d -o warmq -g warmq /data/files
COPY --from=builder /out/ /usr/local/bin/
# The same user id as the worker's: they share /data/files.
USER 10001
WORKDIR /data
EXPOSE 8080
ENTRYPOINT ["warmq-router"]
