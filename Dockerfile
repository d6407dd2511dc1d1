# coursesyncd as an image: `docker build --tag course-sync-daemon:0.1.0 .` builds the last stage, which has only the daemon.
# `--target sandbox` adds the simulated API and the generator, for compose.yaml; never for production.
# The newest interpreter that all tests run on. Debian with glibc, because the packages come as wheels for it. A tag gets
# the security fixes of Debian and Python with each build. To build twice from the same base, pin it by digest:
#   docker buildx imagetools inspect python:3.13-slim-bookworm --format '{{.Manifest.Digest}}'
#   docker build --build-arg PYTHON=python:3.13-slim-bookworm@sha256:… --tag course-sync-daemon:0.1.0 .
ARG PYTHON=python:3.13-slim-bookworm

FROM ${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src

# The dependencies are a layer of their own, rebuilt only when a pin changes. The environment has no pip.
# otel.txt can export traces (12 MB); runtime.txt has only what the daemon always needs; aws.txt adds to otel.txt what the login
# AWS_MSK_IAM needs: docker build --build-arg REQUIREMENTS=aws.txt …
ARG REQUIREMENTS=otel.txt
COPY requirements/runtime.txt requirements/otel.txt requirements/aws.txt requirements/build.txt requirements/
RUN python -m venv --without-pip /opt/course-sync-daemon \
 && pip --python /opt/course-sync-daemon/bin/python install --require-hashes --only-binary :all: -r requirements/${REQUIREMENTS} \
 && pip install --require-hashes --only-binary :all: -r requirements/build.txt

# The daemon itself, built as a wheel without network access.
COPY pyproject.toml README.md LICENSE ./
COPY daemon/ daemon/
RUN pip wheel --no-deps --no-index --no-build-isolation --wheel-dir dist . \
 && pip --python /opt/course-sync-daemon/bin/python install --no-deps --no-index dist/*.whl


FROM ${PYTHON} AS installed
ARG VERSION=0.1.0
ARG REVISION=
LABEL org.opencontainers.image.title="course-sync-daemon" \
      org.opencontainers.image.description="Mirrors course changes from Kafka into learning systems through Kombo's asynchronous bulk API" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

# Owned by root and already compiled: the process cannot modify its own code.
COPY --from=build /opt/course-sync-daemon /opt/course-sync-daemon
ENV PATH=/opt/course-sync-daemon/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1

USER 65532:65532


FROM installed AS sandbox
LABEL org.opencontainers.image.title="course-sync-sandbox"
WORKDIR /opt/sandbox
COPY tests/__init__.py tests/
COPY tests/sandbox/ tests/sandbox/
COPY tests/embedded_log/ tests/embedded_log/
ENTRYPOINT ["python", "-m", "tests.sandbox"]
CMD ["--help"]


FROM installed AS daemon
EXPOSE 8080
# Without a shell, so that process 1 receives SIGTERM. It would ignore the signal until Python has started and handles it: so
# the signal is blocked from the beginning, and coursesyncd unblocks it. Probes use HTTP (/startupz, /livez, /readyz).
ENTRYPOINT ["env", "--block-signal=TERM", "--block-signal=INT", "coursesyncd"]
CMD ["run"]
