"""The local web server, the built page, and the same page as one self-contained file."""

from __future__ import annotations

from ._files import page_files as page_files
from ._html import save_html as save_html
from ._serve import Page as Page
from ._serve import check_port as check_port
from ._serve import open_page as open_page
