"""Belkin, Ma and Mandal 2018 (arXiv 1802.01396): protocol, and epochs to fit from memory."""
