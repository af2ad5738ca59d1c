# A static binary as a user without rights, in an image that holds nothing else.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags=-s -o /out/pullgate ./cmd/pullgate \
 && mkdir -p /out/state

FROM scratch
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
