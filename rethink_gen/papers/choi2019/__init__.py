"""Data echoing: no numbers of this paper stand beside ours."""
