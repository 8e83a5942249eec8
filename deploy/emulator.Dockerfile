# The image of the functions in emulator-compose.yml: the deployed requirements, and this repository.
FROM python:3.11-slim
WORKDIR /app
COPY deploy/requirements.lock deploy/build.lock deploy/
RUN pip install --no-cache-dir --root-user-action=ignore --require-hashes -r deploy/requirements.lock
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY gorchestrate gorchestrate
COPY workflow_core workflow_core
COPY cloud_adapter cloud_adapter
COPY examples examples
RUN pip install --no-cache-dir --require-hashes --target=/tmp/build -r deploy/build.lock && \
    PYTHONPATH=/tmp/build pip install --no-cache-dir --root-user-action=ignore --no-build-isolation --no-deps . && \
    rm -r /tmp/build
COPY functions functions
ENV FUNCTION_SOURCE=functions/main.py PORT=8080
CMD ["functions-framework"]
