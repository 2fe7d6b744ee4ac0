# The image of the daemon, which is that of the probe agent, too (target.probeImage): no shell, no package manager, nothing
# but Python, its packages and chaosd. Two builds of the same files on the same base give the same layer.
#
#   docker build --build-arg REVISION=$(git rev-parse HEAD) --tag chaosd:0.1.0 .
#
# The base gives the interpreter, and pip for building. Any Debian or Ubuntu with python3-venv does.
ARG BASE=python:3.11-slim-trixie
FROM ${BASE} AS build
ARG SOURCE_DATE_EPOCH=0
# Sets of strings in compiled modules stand in the order of their hashes.
ENV PYTHONHASHSEED=0 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv /build && python3 -m venv --without-pip /opt/chaosd
COPY requirements/build.txt requirements/image.txt /src/requirements/
RUN /build/bin/pip install --require-hashes --requirement /src/requirements/build.txt \
 && /build/bin/pip --python /opt/chaosd/bin/python3 install \
      --no-compile --require-hashes --requirement /src/requirements/image.txt
COPY pyproject.toml README.md /src/
COPY chaosd /src/chaosd
RUN /build/bin/pip wheel --no-build-isolation --no-deps --wheel-dir /wheel /src \
 && /build/bin/pip --python /opt/chaosd/bin/python3 install --no-compile --no-deps --no-index /wheel/*.whl
COPY image/rootfs.py /src/
RUN python3 /src/rootfs.py /opt/chaosd /rootfs

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="chaosd" \
      org.opencontainers.image.description="Chaos and durability testing for Kubernetes StatefulSets" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /rootfs /
# Left alone, glibc raises that threshold once a batch was freed, and keeps the room of every later one: 20 MB of a daemon with 30
# replicas (mallopt(3)). It changes nothing of the peak.
ENV PATH=/opt/chaosd/bin \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    PYTHONUNBUFFERED=1 \
    MALLOC_MMAP_THRESHOLD_=131072 \
    CHAOSD_OUT=/var/lib/chaosd
USER 65532:65532
ENTRYPOINT ["chaosd"]
