# syntax=docker/dockerfile:1
# Orbyt in an image without a shell, run by a user without rights.
#
#   docker build -t orbyt .
#   docker run -p 127.0.0.1:3001:3001 -p 127.0.0.1:4000:4000 -e OPENAI_API_KEY -e ORBYT_API_KEYS -v orbyt:/var/lib/orbyt orbyt

FROM rust:1.95-bookworm AS build
# Versions are those of the base image's Debian.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends cmake && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --locked --release --bin orbyt \
    && strip --strip-unneeded -o /orbyt target/release/orbyt \
    && scripts/notices.py >/third-party.txt \
    && mkdir /state

# glibc, CA certificates and time zones; no shell and no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
LABEL org.opencontainers.image.title="Orbyt" \
      org.opencontainers.image.description="A self-hosted LLM gateway" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /orbyt /usr/bin/orbyt
COPY --from=build /third-party.txt LICENSE /usr/share/doc/orbyt/
COPY --from=build --chown=65532:65532 /state /var/lib/orbyt
# Inside a container the loopback address is nobody else's. What the host publishes, the host decides.
ENV ORBYT_LISTEN=0.0.0.0:3001 \
    ORBYT_CONSOLE_LISTEN=0.0.0.0:4000 \
    ORBYT_DATA_DIR=/var/lib/orbyt
# nonroot, by number, so that Kubernetes sees that it is nobody special.
USER 65532:65532
WORKDIR /var/lib/orbyt
VOLUME /var/lib/orbyt
EXPOSE 3001 4000
# The end of a container waits for requests in flight: docker stop --time, stop_grace_period.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 CMD ["/usr/bin/orbyt", "health"]
ENTRYPOINT ["/usr/bin/orbyt"]
CMD ["serve"]
