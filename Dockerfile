# The controller's image: one binary on a base without shell and package manager.
# Both stages are Debian 12: a binary built against a newer glibc would not start on an older one.
FROM rust:1.95.0-slim-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src src
# A member of the workspace, which cargo wants to see; it is not built.
COPY e2e/Cargo.toml e2e/Cargo.toml
COPY e2e/src e2e/src
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release --bin directlb \
    && cp target/release/directlb /directlb

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /directlb /directlb
USER 65532:65532
ENTRYPOINT ["/directlb"]
