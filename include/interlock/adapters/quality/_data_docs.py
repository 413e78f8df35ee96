"""Great Expectations' data docs as pages that need no network and no script.

Great Expectations' own pages fetch a dozen files from CDNs, and write the values of a table into the page as they are.
Ours take its rendered documents and its views, and put templates of our own before its templates: those in
``expectations/data_docs/``. Importing this module imports Great Expectations, which takes seconds; it is only
loaded by Great Expectations itself, by name.
"""

from __future__ import annotations

import html
from typing import Any

from great_expectations.render.view import DefaultJinjaIndexPageView, DefaultJinjaPageView
from jinja2 import ChoiceLoader, FileSystemLoader, pass_context

from interlock.locations import EXPECTATIONS

TEMPLATES = EXPECTATIONS / "data_docs"


class OfflinePageView(DefaultJinjaPageView):
    """A page of the data docs whose texts are escaped and which loads nothing."""

    def __init__(self, **directories: Any) -> None:
        super().__init__(**directories)
        inherited = self.env.loader
        if inherited is None:
            raise TypeError("Great Expectations' view has no templates to build on")
        self.env.loader = ChoiceLoader([FileSystemLoader(TEMPLATES), inherited])

    @pass_context
    def render_content_block(self, jinja_context: Any, content_block: Any, *args: Any, **kwargs: Any) -> Any:
        """Render a block; a plain text, such as a value of a table, is escaped."""
        if isinstance(content_block, str):
            return html.escape(content_block)
        return super().render_content_block(jinja_context, content_block, *args, **kwargs)


class OfflineIndexPageView(DefaultJinjaIndexPageView, OfflinePageView):
    """The index page of the data docs."""
