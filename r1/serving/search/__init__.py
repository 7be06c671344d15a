"""Web search for a reply: a provider finds, pages are fetched and read, a budget is shared.

`web_search` is the interface, `open_search` makes it from `r1 serve --search`. A provider is
the user's own folder (`folder_search`) or a service (`web_providers`); `page_fetcher` goes
to public addresses only (`addresses`).
"""
