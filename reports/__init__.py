"""From recorded evidence to pages: records, statistics, tables, figures."""
