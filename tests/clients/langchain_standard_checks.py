"""langchain-tests' standard integration suites for langchain-openai, run against the proxy.

Not what fetches pictures and documents from the internet.
"""

import os
from typing import Any

from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from langchain_tests.integration_tests import ChatModelIntegrationTests, EmbeddingsIntegrationTests

BASE = {"base_url": os.environ["PROXY_URL"], "api_key": "any", "max_retries": 0}


class TestChat(ChatModelIntegrationTests):
    """Chat completions."""

    @property
    def chat_model_class(self) -> type[ChatOpenAI]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "fake", "stream_usage": True, **BASE}

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str:
        return "gpt-4o"


class TestEmbeddings(EmbeddingsIntegrationTests):
    """Embeddings."""

    @property
    def embeddings_class(self) -> type[OpenAIEmbeddings]:
        return OpenAIEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"model": "fake", "check_embedding_ctx_length": False, **BASE}
