"""Translation between OpenAI's chat completions and Anthropic's Messages, both ways.

Pure functions over parsed JSON: requests (``to_anthropic``, ``to_openai``), replies, errors
and streamed events. What the other side cannot take is refused by name, or reported in a
``Translated``'s warnings; nothing is dropped in silence.

Where a Messages request ends at an Anthropic upstream, it crosses the chat form on its way
(contexts and strategies know that one). What the chat form has no word for then rides along
under Anthropic's own names: ``native=True``.
"""
