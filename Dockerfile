# docker build -t sealpost .
# docker run -p 587:587 -v sealpost:/var/lib/sealpost -v "$PWD/docker.toml:/etc/sealpost/sealpost.toml:ro" \
#            -v "$PWD/tls:/etc/sealpost/tls:ro" -v "$PWD/keys:/etc/sealpost/keys:ro" sealpost
# The files of tls and keys must be readable by user 2525. Ask it with `docker exec CONTAINER sealpost report check`.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin sealpost

FROM debian:bookworm-slim
# Authorities for `trust.roots = "system"`; the default needs none.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --system --uid 2525 --home-dir /var/lib/sealpost --shell /usr/sbin/nologin sealpost \
    && install -d -o sealpost -g sealpost -m 0700 /var/lib/sealpost
COPY --from=build /src/target/release/sealpost /usr/local/bin/sealpost
COPY config/docker.toml /etc/sealpost/sealpost.toml
USER sealpost
VOLUME /var/lib/sealpost
EXPOSE 587
# SIGTERM drains for up to two minutes, then says farewell: `docker stop --time 240`.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=10s \
    CMD ["sealpost", "queue", "list", "--limit", "1", "--json", "--online"]
ENTRYPOINT ["sealpost"]
CMD ["serve"]
