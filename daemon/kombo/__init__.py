"""The client of the Kombo API: an httpx client and its wire formats. All workarounds for that client are in this
package.
"""
