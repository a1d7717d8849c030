# The controller's image: one static program and nothing else. `docker build --tag REGISTRY/kubernaut:v0.1.0 .`
# `./dev image` packs the same without Docker.
FROM rust:1.95.0-slim AS build
# The toolchain of this image, whole as it is: nothing more of it is needed here.
ENV RUSTUP_TOOLCHAIN=1.95.0
WORKDIR /src
COPY . .
RUN ./dev static --release --controller /kubernaut

FROM scratch
COPY --from=build /kubernaut /bin/kubernaut
ENV PATH=/bin
# Of nobody: the number is what a cluster can check.
USER 65532:65532
ENTRYPOINT ["/bin/kubernaut"]
