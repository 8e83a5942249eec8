"""The MCP endpoint: language models use workflows as tools. Needs the extra ``mcp``, and is imported only if served."""
