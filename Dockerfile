# Two images: `services` (the default) runs ledger, tiers and notifier, migrates, checks, makes secrets and configures
# the gateway; `tests` has all that tests and demo need besides, PostgreSQL and Envoy among it.
ARG PYTHON=python:3.13-slim-bookworm

FROM ${PYTHON} AS installed
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv --without-pip /opt/venv
COPY requirements-services.lock /tmp/
# Wheels alone: nothing is built here, and what has another hash than the lock says is not installed.
RUN python -m pip --python /opt/venv/bin/python install \
        --only-binary :all: --no-deps --require-hashes -r /tmp/requirements-services.lock

FROM installed AS installed-for-tests
COPY requirements.lock /tmp/
RUN python -m pip --python /opt/venv/bin/python install \
        --only-binary :all: --no-deps --require-hashes -r /tmp/requirements.lock

FROM ${PYTHON} AS base
# One account for all that runs; the folders are what volumes of secrets begin as.
RUN groupadd --gid 10001 loyalty \
    && useradd --uid 10001 --gid 10001 --home-dir /opt/loyalty --no-create-home --shell /usr/sbin/nologin loyalty \
    && for part in keys ledger tiers notifier gateway owner postgres caller; do \
        install --directory --owner loyalty --group loyalty --mode 0700 "/made/$part"; done \
    && install --directory --owner loyalty --group loyalty --mode 0700 /data /erasures
WORKDIR /opt/loyalty
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/opt/loyalty:/opt/loyalty/gen \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp

FROM base AS tests
COPY --from=installed-for-tests /opt/venv /opt/venv
COPY . /opt/loyalty
USER 10001:10001
CMD ["python", "-m", "pytest", "-p", "no:cacheprovider", "tests/acceptance"]

FROM base AS services
COPY --from=installed /opt/venv /opt/venv
COPY programmes /opt/loyalty/programmes
COPY gen /opt/loyalty/gen
COPY services /opt/loyalty/services
# The root file system may be read-only: what can be compiled is compiled now.
RUN python -m compileall -q /opt/loyalty/services /opt/loyalty/gen
USER 10001:10001
CMD ["python", "-m", "services.ledger", "serve"]
