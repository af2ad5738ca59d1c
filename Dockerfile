# A static binary as a user without rights, in an image that holds nothing else.
# The build runs on the builder's own platform, whatever the image's is.
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY cmd cmd
COPY policy policy
COPY proxy proxy
COPY verify verify
ARG TARGETOS
ARG TARGETARCH
# .git is not copied, so that the version is told: docker build --build-arg VERSION=$(git describe --tags --always)
ARG VERSION=
ARG REVISION=
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -ldflags="-s -w \
      -X github.com/pullgate/pullgate/cmd/pullgate/version.stamped=$VERSION \
      -X github.com/pullgate/pullgate/cmd/pullgate/version.stampedCommit=$REVISION" \
      -o /out/pullgate ./cmd/pullgate \
 && mkdir -p /out/state

FROM scratch
ARG VERSION=
ARG REVISION=
LABEL org.opencontainers.image.title="pullgate" \
      org.opencontainers.image.description="A registry proxy that admits only images with a trusted signature" \
      org.opencontainers.image.source="https://github.com/pullgate/pullgate" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/pullgate /pullgate
COPY --from=build --chown=65532:65532 /out/state /var/lib/pullgate
USER 65532:65532
# The configuration is mounted; its listeners must not be loopback in a container.
# There is no /tmp: verify, test and replay put what they need beside the state.
ENV PULLGATE_STATE_PATH=/var/lib/pullgate TMPDIR=/var/lib/pullgate
VOLUME /var/lib/pullgate
EXPOSE 5000 5001
ENTRYPOINT ["/pullgate"]
CMD ["serve", "--config", "/etc/pullgate/pullgate.yaml"]
